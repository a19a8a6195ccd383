"""What is measured of a learner, and how it is drawn: one file per measure.

A config names ``measure(learner, stream, bench, **options)`` by its dotted path; it returns a dict of plain values,
which becomes ``measures.NAME`` of the run's result, or None where it makes no sense of this learner. ``draw(runs,
names)`` beside it returns the sections of the report, ``summary(found)`` what is printed of it: text goes to the headline, a list
of texts below it. ``check_options(**options)`` and ``check_stream(stream, **options)`` refuse before training.

Args:
    learner: what was trained, in eval mode (`tasks.continual.learners.Learner`).
    stream: its tasks, on the bench's device.
    bench: the place of the run: its seeds, its config, and in ``measured`` what earlier measures found.
    model: the modulated network of a learner.
    seed: of the test images that are drawn; equal seeds draw equal images.

"""
