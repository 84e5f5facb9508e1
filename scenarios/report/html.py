"""placeholder"""
def render(history, summary, results): return "<html>"
