"""Where a teacher's answer comes from: a model, several models, or a column that somebody else wrote.

A trainer does not know the difference. It asks a :class:`Teacher` for logits on a batch; the teacher says which
columns of the dataset it must see for that.
"""

from hf_distill.teachers.base import Teacher
from hf_distill.teachers.column import ColumnTeacher
from hf_distill.teachers.ensemble import EnsembleTeacher
from hf_distill.teachers.image import ImageTeacher
from hf_distill.teachers.model import ModelTeacher, as_teacher, load_classifier, public_name
from hf_distill.teachers.moving_average import MovingAverageTeacher

__all__ = [
    "ColumnTeacher",
    "EnsembleTeacher",
    "ImageTeacher",
    "ModelTeacher",
    "MovingAverageTeacher",
    "Teacher",
    "as_teacher",
    "load_classifier",
    "public_name",
]
