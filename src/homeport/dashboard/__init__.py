"""The dashboard: an app that runs on homeport, and that asks nothing but the public API.

It stores nothing: a visitor's cookie has the visitor's token, and each page is made from the API's answers at that
moment. So it scales to zero at any time, and two visitors share nothing.
"""
