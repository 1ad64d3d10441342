"""The file names of an artifact, and which files belong to it."""

MANIFEST = "ddhub.json"  # holds the hashes of the payload
RECIPE = "recipe.yaml"
WHITENING = "preprocess.safetensors"
CARD = "README.md"
REPORT = "report.json"
CROISSANT = "croissant.json"  # describes the data files in the Croissant format

# Hashed files. They never change once they are written.
PAYLOAD = ("data/*.parquet", WHITENING, "teachers/*.safetensors", RECIPE)
# Files that are pushed and fetched. No other file of a folder or repo belongs to a set.
PUBLISHED = (*PAYLOAD, MANIFEST, CARD, CROISSANT, REPORT, "evaluation/*.json", "assets/*.png")
