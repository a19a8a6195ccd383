"""What training needs beside a loss: statistics of norms, regularisers, penalties, many tasks in one step."""

from neuromod.training.calibrate import calibrate
from neuromod.training.regularise import OutputRegulariser
from neuromod.training.together import Together

__all__ = ["OutputRegulariser", "Together", "calibrate"]
