"""x"""
def table(result):
    return "\n".join(f"{f.name:40} {f.spread.low:10.3f} {f.spread.middle:10.3f} {f.spread.high:10.3f} {f.unit} {f.goal}" for f in result.figures)
