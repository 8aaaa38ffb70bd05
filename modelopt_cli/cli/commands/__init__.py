"""One file a command: parse, call, render. main.py registers them; nothing else imports them."""
