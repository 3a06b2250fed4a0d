"""The upload page and the browser library it is made of, served as they lie here: no build step."""
