"""Settings tried over history, and how much of what they show is luck."""
