"""The same task again and again: what differs between networks that learn it is where they start and what they see first."""

from tasks.continual.streams.base import Split, Stream, Task, Tasks, count_of_tasks
from tasks.continual.streams.views import normalisation
from tasks.data.image_set import ImageSet


def repeated(image_set: ImageSet, tasks: Tasks, seed: int) -> Stream:
    """The image set `tasks` times over; each is learned from a start and in an order of batches of its own.

    For masks of one frozen network: how much of a mask is the task's, and how much the start's? The seed draws nothing.
    """
    train = Split(image_set.train_images, image_set.train_labels)
    test = Split(image_set.test_images, image_set.test_labels)
    view, classes = normalisation(image_set), len(image_set.classes)
    made = tuple(Task(f"repeated-{i}", train, test, view, classes) for i in range(count_of_tasks(tasks)))
    return Stream("repeated", made, image_set, seed, image_set.shape, classes)
