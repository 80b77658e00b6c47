"""The page of `headrace tune --report`: one file that opens in any browser, without a network."""
