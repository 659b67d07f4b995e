"""Why a closed bar gave a signal, or did not."""
