"""Nothing about images: errors, files, strict YAML and JSON, limits, log, plug-ins, jobs. It imports no package."""
