"""The same Windows guests through virt-v2v and through ours: every difference is listed with its reason, or a bug."""
