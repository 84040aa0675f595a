"""Accelerators that someone holds: read from what is at hand, classified, summed by ECCN and destination."""

from .classification import ClassifiedItem, Classifier
from .items import Count, Inventory, InventoryError, Item, Rejected
from .reading import FORMATS, read_inventory
from .totals import Total, totals

__all__ = [
    "FORMATS",
    "ClassifiedItem",
    "Classifier",
    "Count",
    "Inventory",
    "InventoryError",
    "Item",
    "Rejected",
    "Total",
    "read_inventory",
    "totals",
]
