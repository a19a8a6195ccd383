"""What training needs beside a loss: statistics of norms, regularisers, penalties, many tasks in one step, rows compared and fitted."""

from neuromod.training.calibrate import calibrate
from neuromod.training.fit import fit_rows
from neuromod.training.regularise import OutputRegulariser
from neuromod.training.spread import row_spread
from neuromod.training.together import Together
from neuromod.training.untouched import skip_untouched

__all__ = ["OutputRegulariser", "Together", "calibrate", "fit_rows", "row_spread", "skip_untouched"]
