"""How good predictions are, for torch modules and estimators alike; numpy alone.

`names` says which metrics there are without computing any and imports fast; `scoring.compute` computes them.
"""
