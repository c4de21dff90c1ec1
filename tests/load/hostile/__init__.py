"""Attack on the gateway's door, by callers who may connect: huge, malformed and endless requests.

payloads (what is sent) → attackers (processes of their own) → gateway ← normal callers, who are measured → report
"""
