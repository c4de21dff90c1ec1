"""The commands of smsctl; each module is imported only when its command runs."""
