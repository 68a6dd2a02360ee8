"""Data sets in memory, batches of them, and augmentation. Nothing is downloaded."""

from .augmentation import Augmentation as Augmentation
from .augmentation import random_flip as random_flip
from .augmentation import random_pad_crop as random_pad_crop
from .augmentation import random_shift as random_shift
from .batch_loader import BatchLoader as BatchLoader
from .embedded import digits as digits
from .idx import read_idx as read_idx
from .images import Dataset as Dataset
from .images import Images as Images
from .images import to_float as to_float
from .mnist import mnist_folder as mnist_folder
from .named import DATA_NAMES as DATA_NAMES
from .named import load as load
