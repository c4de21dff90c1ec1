"""What the gateway, the dispatcher and the commands share. It imports none of them."""
