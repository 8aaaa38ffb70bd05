"""What samplers share: histories and settings as numbers, priors, designs, neighbours, settings not tried yet.

Private to tuning/: samplers import from here, and so do analysis/ and schedulers/, which model trials as well.
"""
