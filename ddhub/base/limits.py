"""Limits on files of strangers. Every known set stays well below them.

SECURITY.md lists the limits, and a test compares both.
"""

JSON_BYTES = 64 * 10**6  # a manifest or a report
JSON_VALUES = 2 * 10**6  # of a manifest or report; 20,000 rows with summary hold half as many
ROW_BYTES = 64 * 10**3  # an evaluation row; real ones have 2,000
ROW_VALUES = 1000  # of an evaluation row
ROWS = 20_000  # evaluation rows of one set
ROWS_BYTES = 64 * 10**6  # all evaluation rows of one set
YAML_BYTES = 4 * 10**6  # a recipe, or a card's header; read at 0.4 MB a second
DEPTH = 64  # levels of lists and keys in JSON
INTEGER = 2**63  # in JSON and YAML: what 64 bits hold
NAME = 200  # characters of a name in a row
CLASSES = 100_000
CLASS_NAME = 1000  # characters
SIDE = 1024  # pixels, the side of a set's images
TILES = 8  # how many times smaller than a network's input a set's stored images may be, per side
PIXELS = 89_478_485  # of one image before decoding; Pillow warns from there
SCANS = 500  # of a progressive JPEG; each scan decodes the whole picture
SET_BYTES = 16 * 10**9  # one decoded set, or one foreign file, packed or unpacked
PACKED = 200  # an archive may unpack to so many times its size, or to UNPACKED bytes
UNPACKED = 10**9  # bytes
ANSWER_BYTES = 64 * 10**6  # of one answer or list of the Hub's API
DOWNLOAD_BYTES = 50 * 10**9  # of one file; the Hub's client fetches no larger one
PAGES = 2000  # of one list of the Hub
COUNT = 10**9  # epochs, steps, batches and images per class of a recipe
NETWORKS = 10**4  # teachers and students of a recipe
FACTOR = 10**6  # learning rates, weights and factors; their products fit float32
PICKLE_BYTES = 64 * 10**6  # a torch file without the values of its tensors
PICKLE_STEPS = 4 * 10**6  # each step can create an object of 60 bytes
