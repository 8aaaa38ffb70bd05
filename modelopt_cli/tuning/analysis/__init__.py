"""What a history of trials teaches: importances, effects, regret, fronts, and which noisy setting is best.

Lies above samplers/, whose surrogates it uses, and below study/ and search/.
"""
