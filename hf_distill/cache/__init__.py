"""A teacher's answers, computed once, kept on the disk and found by example."""

from hf_distill.cache.build import cache_teacher
from hf_distill.cache.cached_teacher import CachedTeacher
from hf_distill.cache.soft_labels import with_soft_labels

__all__ = ["CachedTeacher", "cache_teacher", "with_soft_labels"]
