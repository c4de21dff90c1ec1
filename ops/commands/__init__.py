"""The commands of smsctl, each imported when it is used."""
