"""What users give as places of sets."""

from pathlib import Path

Folder = str | Path  # the folder of a set, or the folder to write one to
Reference = str | Path  # a set's folder, or its Hub id as `owner/name` or `owner/name@revision`
