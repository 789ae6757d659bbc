"""From a request to a slate: user state, candidates, filters, ranking, slate, impression."""
