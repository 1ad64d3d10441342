"""How much of a stranger's file is read: generous for every set that is known, and the end of what is not one.

SECURITY.md lists these; a test holds both equal.
"""

JSON_BYTES = 64 * 10**6  # a manifest or a report
JSON_VALUES = 2 * 10**6  # of it; what 20,000 rows and their summary hold is half of that
ROW_BYTES = 64 * 10**3  # an evaluation row, of which real ones have two
ROW_VALUES = 1000  # of it
ROWS = 20_000  # evaluation rows of one set
ROWS_BYTES = 64 * 10**6  # of all of them
YAML_BYTES = 4 * 10**6  # a recipe, or a card's header; read at 0.4 MB a second
DEPTH = 64  # levels of lists and keys in JSON
INTEGER = 2**63  # in JSON and YAML: what 64 bits hold
NAME = 200  # characters of a name in a row
CLASSES = 100_000
CLASS_NAME = 1000  # characters
SIDE = 1024  # pixels, of a set's images
PIXELS = 89_478_485  # of one image, before it is decoded: where Pillow begins to warn
SCANS = 500  # of a progressive JPEG, each of which decodes the whole picture
SET_BYTES = 16 * 10**9  # decoded, of one set; of one foreign file, packed or unpacked
PACKED = 200  # times its own size that an archive may unpack to, once that is more than UNPACKED
UNPACKED = 10**9  # bytes
COUNT = 10**9  # epochs, steps, batches and images per class that are asked for
NETWORKS = 10**4  # teachers and students that are asked for
FACTOR = 10**6  # learning rates, weights and factors: float32 holds their products
PICKLE_BYTES = 64 * 10**6  # of a torch file, without the numbers of its tensors
PICKLE_STEPS = 4 * 10**6  # each can make something of 60 bytes
