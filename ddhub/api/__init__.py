"""The Python functions, one for each command. Each takes plain values and returns an object of ddhub/outcomes.py.

They lie in files as the commands do. A function imports heavy packages when it is called. `recipes` and errors in
arguments do not wait for torch to load.
"""

from ddhub.api.judge import card as card
from ddhub.api.judge import evaluate as evaluate
from ddhub.api.judge import report as report
from ddhub.api.judge import verify as verify
from ddhub.api.make import distill as distill
from ddhub.api.make import init as init
from ddhub.api.make import merge as merge
from ddhub.api.make import plan as plan
from ddhub.api.make import recipes as recipes
from ddhub.api.share import export as export
from ddhub.api.share import import_set as import_set
from ddhub.api.share import pull as pull
from ddhub.api.share import push as push
from ddhub.evaluation import choices as choices  # for the command line, which knows this package alone
from ddhub.interop.options import ImportOptions as ImportOptions
