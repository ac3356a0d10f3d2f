"""Reading: folders, archives and Hub data sets become a DatasetDict of images and masks."""
