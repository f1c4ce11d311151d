"""Where training runs are made: a run folder goes in, the same folder comes out filled. Knows no database."""
