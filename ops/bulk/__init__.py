"""Reads files of messages for `smsctl batch`, gives each row its identity, and writes the refused rows again."""
