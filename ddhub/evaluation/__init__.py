"""Test scores of any set; only here is test data opened. It may import all but distillation, reports and api."""
