"""From a recipe to a set: methods, groups, packaging, plans. It may import base, data, training and artifact."""
