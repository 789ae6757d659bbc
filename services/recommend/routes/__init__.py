"""The recommender's routes by subject: each turns a body into a question and its result into an answer."""
