"""Records to what people look at; one file per format. Reports pull from records, nothing pushes into them."""
