"""Where answers are made: child or remote processes behind one Protocol. Knows no database."""
