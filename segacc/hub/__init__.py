"""Hub: trained models pushed to a repository of the Hugging Face Hub, with a card."""
