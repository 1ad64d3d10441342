"""The files of an artifact by name: what it is made of, and what a repo holds of it."""

MANIFEST = "ddhub.json"  # the hashes of the payload stand in it
RECIPE = "recipe.yaml"
WHITENING = "preprocess.safetensors"
CARD = "README.md"
REPORT = "report.json"
CROISSANT = "croissant.json"  # describes the data files to readers of Croissant

# What is hashed, and never changes once it is made.
PAYLOAD = ("data/*.parquet", WHITENING, "teachers/*.safetensors", RECIPE)
# What is pushed and fetched; nothing else in a folder or a repo belongs to a set.
PUBLISHED = (*PAYLOAD, MANIFEST, CARD, CROISSANT, REPORT, "evaluation/*.json", "assets/*.png")
