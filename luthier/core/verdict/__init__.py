"""Was it worth it? Contenders, their scores, and what follows. Asks by the function that it is given; pure otherwise.

Server and command line share it, so both judge alike.
"""
