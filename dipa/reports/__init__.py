"""Tables and lookups of the pages: what the papers print, what was recorded here, the two side
by side, what training costs.
"""

from ..lazy import lazy

MODULES = ("cost", "equilibrium", "goals", "step_lengths")
HOMES = {
    "compare": (
        "differences",
        "images_table",
        "margins",
        "paper_beside_ours",
        "profile_table",
        "shift_table",
    ),
    "headline": ("STORIES", "at_a_glance", "examples", "findings"),
    "operators": ("by_operator", "comparisons", "learned_first", "what_training_adds", "whole"),
    "markdown": ("mean_sd", "short_count", "table"),
    "paper": (
        *("paper_baseline", "paper_gain", "paper_values", "presets_of", "published"),
        *("contradictions", "doubts", "printed_psnr", "readings", "teacher_spreads"),
    ),
    "results_page": (
        "ResultsPage",
        *("show", "show_table", "show_distilled", "show_measured", "show_curves", "show_images"),
    ),
    "runs": (
        *(
            "best_run",
            "by_preset",
            "curves",
            "first_seeds",
            "gain",
            "long_residuals",
            "reconstructions",
            "run_of",
        ),
        *(
            "best_in_words",
            "measured",
            "not_recorded",
            "phases_table",
            "preset_table",
            "provenance",
            "spectra_table",
        ),
    ),
}
__getattr__, __dir__ = lazy(__name__, MODULES, HOMES)
