"""What every workflow needs: its context, the prologue and closing of its report, run files, seeds, gates, data.

All of its modules may be imported by the other folders of workflows/; none of them imports a kind of run.
"""
