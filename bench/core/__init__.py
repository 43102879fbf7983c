"""The ground floor: specs, keys, declarations, errors. Imports nothing above itself."""
