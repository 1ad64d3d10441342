"""Code that knows nothing of images: errors, files, strict YAML and JSON, limits, log, plug-ins, jobs.

It imports no other package.
"""
