"""Reports: a run as one page for people, with pictures and numbers. No torch in this room, and nothing is computed
here but what a picture needs."""
