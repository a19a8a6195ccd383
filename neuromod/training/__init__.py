"""What training needs beside a loss: statistics of norms, regularisers, penalties, many tasks in one step."""

from neuromod.training.calibrate import calibrate
from neuromod.training.regularise import OutputRegulariser
from neuromod.training.together import Together
from neuromod.training.untouched import skip_untouched

__all__ = ["OutputRegulariser", "Together", "calibrate", "skip_untouched"]
