"""Several classification tasks in one student: their names, data, models, terms and metrics.

A multi-task student is a classifier like any other, whose head has the classes of all tasks beside each other. Its
config says which they are; softmax runs within a task.
"""

from hf_distill.tasks.data import joint_dataset
from hf_distill.tasks.metrics import task_metrics
from hf_distill.tasks.models import task_model, with_tasks
from hf_distill.tasks.names import Tasks
from hf_distill.tasks.term import TaskTerm, multi_task_objective

__all__ = ["TaskTerm", "Tasks", "joint_dataset", "multi_task_objective", "task_metrics", "task_model", "with_tasks"]
