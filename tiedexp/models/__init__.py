"""Model families: flat keyword arguments in, a keras.Model out; and what each costs."""
