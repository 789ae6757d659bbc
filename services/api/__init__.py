"""What both HTTP services share: routes, schemas, problems, keys and the front that answers."""
