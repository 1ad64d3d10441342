"""Test scores of any set. Only this package opens test data. It may import all but distillation, reports and api."""
