"""Providers that know nothing of this project's code: a raw HTTP server, reached by the generic adapter.

They answer late, leave requests unread, work on them after the client has given up, and deny what they will send.
"""
