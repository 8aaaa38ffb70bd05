"""Search: a space, an objective, and what decides between them. Knows no experiment and no model.

From the ground up: trials/, space/, samplers/ and executors/, stoppers/, analysis/ and schedulers/, study/, search/.
"""
