"""Several agents: parameter sharing on a game of PettingZoo, between random actions and a planned assignment."""
