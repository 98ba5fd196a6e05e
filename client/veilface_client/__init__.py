"""What sees a face or an identity: it runs on an organisation's own premises."""
